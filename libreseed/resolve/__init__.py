"""The resolver as a state machine: policy and engine, inputs to next actions."""
