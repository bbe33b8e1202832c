"""The eval suite on Inspect AI: our model provider, our items task, the runner. Inspect is imported in this room only."""
