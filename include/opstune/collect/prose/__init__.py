"""What is read out of what people wrote: alerts, actions, queries, the parts of an issue. Pure."""
