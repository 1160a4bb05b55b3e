module patroniglue

go 1.26
