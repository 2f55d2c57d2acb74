package notice

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	dots = "..."
	// backMost is how many runes Cut steps back from within a character that is made of several.
	backMost = 16
)

// Cut returns text in at most limit bytes: whole, or cut between two characters
// and with "..." at its end. A limit below three bytes leaves nothing.
func Cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	if limit < len(dots) {
		return ""
	}
	end := limit - len(dots)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	whole := end
	for range backMost {
		if end == 0 || !joined(text[:end], text[end:]) {
			return text[:end] + dots
		}
		_, size := utf8.DecodeLastRuneInString(text[:end])
		end -= size
	}
	return text[:whole] + dots
}

// joined reports whether a cut would part what a reader sees as one character:
// a letter and its marks, an emoji and its tone, or emojis with a joiner between.
func joined(before, after string) bool {
	const joiner = '\u200d'
	last, _ := utf8.DecodeLastRuneInString(before)
	next, _ := utf8.DecodeRuneInString(after)
	return last == joiner || next == joiner || unicode.In(next, unicode.Mn, unicode.Me) || next >= 0x1f3fb && next <= 0x1f3ff
}

// Fit shortens the text and then the title of a notification until size, which
// measures it as it is sent, is within limit; false: it can't be. Invalid UTF-8 is replaced first.
func (n *Notice) Fit(limit int, size func() int) bool {
	n.Title, n.Text = strings.ToValidUTF8(n.Title, "\ufffd"), strings.ToValidUTF8(n.Text, "\ufffd")
	for _, part := range []*string{&n.Text, &n.Title} {
		if size() <= limit {
			return true
		}
		whole := *part
		// The longest cut that fits: one that is longer never measures less.
		over := sort.Search(len(whole), func(most int) bool {
			*part = Cut(whole, most)
			return size() > limit
		})
		*part = Cut(whole, max(over-1, 0))
	}
	return size() <= limit
}
