"""The web page of `holmes serve`: a video goes in; its score curve, its spans, their explanation and a chat come out.

Gradio is imported only where the page is put together. All text that comes from videos, models or people is escaped.
"""
