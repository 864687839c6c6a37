"""Kiali's validations, evaluated as the cluster changes; the codes are Kiali's, the texts ours."""
