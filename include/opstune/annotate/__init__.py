"""Label Studio, both ways: what needs a human goes out, what is done comes back, and how far people agree."""
