package nodetest_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/node/nodetest"
)

func Example() {
	c := nodetest.NewCluster("main", "pg1", "pg2")
	defer c.Close()
	show := func() {
		for _, n := range c.Nodes() {
			resp, err := http.Get(n.URL() + "/primary")
			if err != nil {
				fmt.Println(err)
				continue
			}
			resp.Body.Close()
			fmt.Println(n.Name(), resp.Proto, resp.Status)
		}
	}
	show()
	c.Switchover("pg2")
	show()
	// Output:
	// pg1 HTTP/1.0 200 OK
	// pg2 HTTP/1.0 503 Service Unavailable
	// pg1 HTTP/1.0 503 Service Unavailable
	// pg2 HTTP/1.0 200 OK
}

// In a bubble, time passes at once and everything runs over a network in memory.
func ExampleNet() {
	_ = func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			nw := nodetest.NewNet()
			c := nodetest.Options{
				Version: "3.0.2",
				Listen:  nw.Listen,
				Addr:    func(name string) string { return name + ":8008" },
			}.NewCluster("main", "pg1", "pg2")
			defer c.Close()

			client := &http.Client{Transport: &http.Transport{DialContext: nw.DialContext}, Timeout: time.Second}
			c.Node("pg1").Freeze()
			if _, err := client.Get("http://pg1:8008/primary"); err == nil {
				t.Error("an answer from a frozen node")
			}
		})
	}
}
