"""A Label Studio server: projects of clicks and of reviews, what people made there, and calls when they did."""
