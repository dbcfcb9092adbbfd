"""What a run has written, uploaded to MLflow.

The run's folder is the truth, and training knows nothing of MLflow: cells write their tables, and
one process reads them and uploads what the server lacks. A server that dies therefore loses
nothing and holds nobody up.
"""
