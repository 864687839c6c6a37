"""The translator: SMI, designs and intents become what Istio runs. It touches no cluster."""

import sys
from types import ModuleType

# The package `cel` imports its command line with all that draws it (typer, rich, prompt_toolkit):
# a quarter of the service's start, for a terminal that nobody has.
sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
