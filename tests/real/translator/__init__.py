"""The translator, judged by real definitions, a real istiod and real Envoys."""
