package vendors

// Outcomes is the table of the pool's own outcomes as it stands in docs/vendors.md.
func Outcomes() string { return outcomes.Markdown() }
