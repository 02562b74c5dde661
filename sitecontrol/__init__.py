"""What a site is and who may lead: settings, etcd, the failover decisions, the agent, `sitectl`, the lab."""
