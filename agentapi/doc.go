// Package agentapi answers HAProxy's agent-checks: a TCP connection per
// question, one line as the answer. It decides nothing. The verdict is the one
// that HTTP gives; this package reads the question and puts the answer into
// HAProxy's words.
//
// HAProxy keeps every word until another of the same category replaces it,
// and keeps a server as it is when the agent does not answer. So an answer is
// always one whole line that sets everything, and where nothing is known for
// certain (the supervisor is ending, nobody could say anything in time) the
// connection is closed without an answer: a guess would change a server's
// state, silence does not.
package agentapi
