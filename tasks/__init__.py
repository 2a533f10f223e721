"""Attribution profiles of stock tasks, and the planted benchmark."""
