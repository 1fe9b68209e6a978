"""Who serves what: etcd, static, in-memory."""
