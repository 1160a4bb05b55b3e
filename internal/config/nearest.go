package config

import "strings"

// Nearest returns the name that somebody who typed got may have meant.
func Nearest(got string, names []string) (string, bool) {
	most := max(2, len(got)/3) // two letters swapped count 2
	if len(got) <= 3 {
		most = 1 // or "ttl" would mean "url"
	}
	best, least := "", most+1
	for _, name := range names {
		if d := distance(strings.ToLower(got), name); d < least {
			best, least = name, d
		}
	}
	return best, best != ""
}

// distance counts the bytes to insert, delete or replace to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
