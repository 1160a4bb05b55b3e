package patroni

import (
	"fmt"
	"testing"

	"patroniglue/test/harness"
)

// page: somebody has the page open while the primary of a real cluster changes.
func (e *behindHAProxy) page(t *testing.T) {
	c := e.well(t)
	to := c.Replicas[0]
	page := harness.StartBrowser(t).Open(t, "http://"+e.Lab.HTTP+"/")
	page.IsLive(t)
	page.Says(t, "#banner", c.Primary.Name+" is primary")
	page.Occupy(t)
	if err := e.Lab.Switchover(t.Context(), to.Name); err != nil {
		t.Fatal(err)
	}
	page.Says(t, "#banner", to.Name+" is primary")
	page.Await(t, fmt.Sprintf("document.querySelector('tbody[data-leader]').dataset.node === %q", to.Name))
	page.Says(t, "#changes", "became "+to.Name+" after ") // so long
	page.Await(t, "document.querySelector('#intervals li.none') !== null")
	e.well(t)
	page.Await(t, "document.getElementById('banner').dataset.level === 'ok'")
	page.IsUndisturbed(t)
	page.IsWellMade(t, harness.NarrowLight)
}
