"""What serving and training share: the ranker protocol, features and rankers."""
