"""The ROS 2 side: nodes, message conversion, parameters. Needs rclpy; never imports the command line."""
