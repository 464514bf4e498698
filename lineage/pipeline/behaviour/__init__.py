"""The command behave: models run on prompts, and what their answers tell."""
