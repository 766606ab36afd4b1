"""The Open Inference Protocol over gRPC: the same models, keys, permissions and prediction log as over REST."""
