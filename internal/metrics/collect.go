package metrics

import (
	"patroniglue/node"
)

// The roles and states that get a label of their own: Patroni's (4.1, misc.py:13-34).
var (
	roles = []node.Role{
		node.RolePrimary, node.RoleReplica, node.RoleStandbyLeader, node.RoleDemoted, node.RoleUninitialized, node.RolePromoted,
	}
	states = []node.State{
		node.StateRunning, node.StateUnknown, node.StateStarting, node.StateStopping, node.StateStopped, node.StateRestarting, node.StateCrashed,
		"creating replica", "initializing new cluster", "initdb failed", "running custom bootstrap script", "custom bootstrap failed",
		"starting after custom bootstrap", "start failed", "restart failed", "stop failed",
	}
)
