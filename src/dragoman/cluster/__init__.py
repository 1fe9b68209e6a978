"""All endpoints of one service: registry + balance + flow + rpc."""
