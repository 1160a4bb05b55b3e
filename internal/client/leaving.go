package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"patroniglue/httpapi"
	"patroniglue/internal/config"
)

func SendLeaving(ctx context.Context, cfg *config.Config, method, path string) (httpapi.Leaving, error) {
	client, base, err := dial(cfg)
	if err != nil {
		return httpapi.Leaving{}, err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, base+path, nil)
	if err != nil {
		return httpapi.Leaving{}, err
	}
	req.Header.Set("Authorization", "Bearer "+cfg.Frontend.Token)
	resp, err := client.Do(req)
	if err != nil {
		return httpapi.Leaving{}, err
	}
	defer resp.Body.Close()
	var answer struct {
		httpapi.Leaving
		Error string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK || answer.Node == "" {
		return httpapi.Leaving{}, fmt.Errorf("%s: status code %d: %s", req.URL, resp.StatusCode,
			cmp.Or(answer.Error, "does another program answer there, or an older patroniglue?"))
	}
	return answer.Leaving, nil
}
