"""Engines that answer: Hugging Face in batches, llama.cpp as it ships."""
