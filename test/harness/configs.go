package harness

// OneCluster is two nodes of one cluster, with agents shared and of their own.
const OneCluster = `
[agent]
listen = ":5555"
[[node]]
name = "pg1"
url = "http://10.0.0.11:8008"
postgres = "10.0.0.11:5432"
agent = { primary = ":5551", replica = "127.0.0.1:5561" }
[[node]]
name = "pg2"
url = "http://10.0.0.12:8008"
postgres = "10.0.0.12:5432"
agent = { primary = ":5552", replica = "127.0.0.1:5562" }
`

// TwoClusters is two clusters which both have a node pg1.
const TwoClusters = `
[agent]
listen = ":5555"
[[node]]
name = "pg1"
cluster = "east"
url = "http://10.0.0.11:8008"
postgres = "10.0.0.11:5432"
[[node]]
name = "pg1"
cluster = "west"
url = "http://10.0.1.11:8008"
postgres = "10.0.1.11:5432"
[[node]]
name = "pg2"
cluster = "east"
url = "http://10.0.0.12:8008"
postgres = "10.0.0.12:5432"
`
