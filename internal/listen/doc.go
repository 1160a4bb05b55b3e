// Package listen has what lies between a socket and the protocol that is spoken on
// it, and is the same for HTTP and for agent checks: how sockets are opened (open.go),
// which peers may connect (allow.go), how many connections may be open (pool.go),
// what happens when accepting one fails (patient.go), and how a question that has
// arrived with its connection is answered fast (fast.go).
package listen
