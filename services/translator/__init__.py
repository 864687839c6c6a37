"""The translator: SMI, designs and intents become what Istio runs. It touches no cluster."""
