"""The application: the plan of stages, the `holmes` command and the Prefect flows."""
