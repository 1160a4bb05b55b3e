package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"patroniglue/cluster"
	"patroniglue/internal/config"
)

// fetchHistory gives the history, or why the daemon refuses the question.
func FetchHistory(ctx context.Context, cfg *config.Config, path string) (h cluster.History, refused string, err error) {
	client, base, err := dial(cfg)
	if err != nil {
		return h, "", err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return h, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return h, "", err
	}
	defer resp.Body.Close()
	var answer struct {
		cluster.History
		Error string `json:"error"`
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	switch {
	case err == nil && resp.StatusCode == http.StatusOK && answer.Changes != nil:
		return answer.History, "", nil
	case err == nil && answer.Error != "":
		return h, answer.Error, nil
	}
	return h, "", fmt.Errorf("%s: status code %d: does another program answer there, or an older patroniglue?", req.URL, resp.StatusCode)
}
