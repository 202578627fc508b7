"""The REST API of `holmes serve --api`: a video goes in as a job; its result, its spans and their clips come out.

One model serves the jobs and the page, one after the other. FastAPI is imported only where the API is put together.
"""
