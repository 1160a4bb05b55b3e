package config

func ClusterNames(cfg *Config) []string {
	var names []string
	seen := make(map[string]bool)
	for _, n := range cfg.Nodes {
		if !seen[n.Cluster] {
			seen[n.Cluster] = true
			names = append(names, n.Cluster)
		}
	}
	return names
}
