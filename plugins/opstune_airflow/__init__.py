"""All of opstune that knows Airflow. The library under ``include/`` knows nothing of it."""
