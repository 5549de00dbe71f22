"""The part for JetStream."""
