package cli

// Control sequences of xterm, which all terminals of today know: another screen
// as full-screen programs use it, so that what was on it comes back; the cursor;
// wrapping, which characters of two columns would cause.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K" // from the cursor on
	clearBelow  = "\x1b[J"
)
