"""Networks and operators in torch, one per file."""
