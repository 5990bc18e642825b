"""The networks of policy and critic."""
