// Package agentapi answers HAProxy's agent checks: one TCP connection per
// question, one line as the answer. It decides nothing. The verdict is the same
// as over HTTP; this package reads the question and says the answer in
// HAProxy's words.
//
// HAProxy keeps every word until another one of the same category replaces it,
// and leaves a server as it is when the agent does not answer. So an answer is
// always one whole line that sets everything. Where nothing is known for certain
// (the supervisor is stopping, or there was no verdict in time), the connection is
// closed without an answer: a guess would change a server's state, silence does not.
package agentapi
