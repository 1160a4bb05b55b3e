// Package page renders the operator's page. The server renders it, it works without
// JavaScript, and with it it is kept up to date (live.go). Its marks stay the same in
// all versions, for tests and for programs that read it:
//
//	<html data-level data-page data-live>  the worst level; which page of which build it is; "yes" or "no" once the script runs
//	#banner[data-cluster][data-level]      one cluster's verdict; its reasons are li[data-code]
//	tbody[data-node][data-level]           one node, in the table #nodes; [data-leader] on the one primary
//	td[data-check][data-outcome]           the answer to a check, of primary and replica
//	#timeline, #changes                    which node was primary when; the changes, latest first
//	tr[data-cluster][data-level]           one cluster of the overview
//	#own                                   what is wrong with the supervisor itself
//	#live                                  the bar that says that the page is out of date
package page
