package node

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Settings are the parts of a cluster's dynamic configuration that bound how
// long an old primary may be believed.
type Settings struct {
	TTL      time.Duration // of the leader key
	LoopWait time.Duration // between two rounds of Patroni's loop
}

// Settings reads GET /config. Keys that are not set have Patroni's defaults, 30 s and
// 10 s (config.py). Any error is a [*Failure]; it has [KindDocument] if the member
// answers, but Patroni could not read a value either.
//
// Patroni 4 raises a ttl below 20 s, and lowers a loop_wait that does not fit to it. To
// read the values as they stand is the safe side: the difference of the two is at most
// as large.
func (c *Client) Settings(ctx context.Context) (Settings, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.get(ctx, "/config")
	if err != nil {
		return Settings{}, newFailure(err, c.timeout)
	}
	if resp.status != http.StatusOK {
		return Settings{}, &Failure{Kind: KindStatus, Err: fmt.Errorf("status code %d, want 200", resp.status)}
	}
	var in map[string]json.RawMessage
	if err := json.Unmarshal(resp.body, &in); err != nil {
		return Settings{}, &Failure{Kind: KindDocument, Err: jsonError(err)}
	}
	s := Settings{30 * time.Second, 10 * time.Second}
	if err := readSeconds(in, "ttl", 1, &s.TTL); err != nil {
		return Settings{}, &Failure{Kind: KindDocument, Err: err}
	}
	if err := readSeconds(in, "loop_wait", 0, &s.LoopWait); err != nil {
		return Settings{}, &Failure{Kind: KindDocument, Err: err}
	}
	return s, nil
}

// readSeconds reads a key into p, which keeps its value if the key is not given.
func readSeconds(in map[string]json.RawMessage, key string, low int64, p *time.Duration) error {
	raw, given := in[key]
	if !given {
		return nil
	}
	n, ok := pythonInt(raw)
	if !ok || n < low || n > math.MaxInt32 {
		return fmt.Errorf("%s: want a whole number of seconds, at least %d (got %s)", key, low, raw)
	}
	*p = time.Duration(n) * time.Second
	return nil
}

// integer is a string that Python's int() takes, without white space around it.
var integer = regexp.MustCompile(`^[+-]?[0-9]+(_[0-9]+)*$`)

// pythonInt is Python's int(), with which Patroni casts the numbers of its dynamic
// configuration: of a number the part before the point, of a string its number, of true
// and false 1 and 0.
func pythonInt(raw json.RawMessage) (n int64, ok bool) {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return 0, false
	}
	switch v := v.(type) {
	case float64:
		return int64(v), math.Abs(v) < 1<<53
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case string:
		text := strings.TrimSpace(v)
		if !integer.MatchString(text) {
			return 0, false
		}
		n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
		return n, err == nil
	}
	return 0, false
}
