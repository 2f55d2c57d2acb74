package apns

import "unicode"

// cutMark follows a text that was cut.
const cutMark = "..."

// joiner is the zero width joiner, which makes one picture of several.
const joiner = '\u200d'

// cutsOf returns where text may be cut, ascending, within its first most bytes: before characters as a
// reader sees them, so that no accent, skin tone or member of a family is torn off.
func cutsOf(text string, most int) (cuts []int) {
	var before rune
	regional := 0 // regional indicators in a row: two are a flag
	for i, r := range text {
		if i > most {
			break
		}
		flag := isRegional(r)
		if !continues(r) && before != joiner && !(flag && regional%2 == 1) {
			cuts = append(cuts, i)
		}
		regional++
		if !flag {
			regional = 0
		}
		before = r
	}
	return cuts
}

// continues reports whether r belongs to the character before it.
func continues(r rune) bool {
	const tones, tonesEnd = '\U0001F3FB', '\U0001F3FF'
	return r == joiner || r >= tones && r <= tonesEnd || r > unicode.MaxLatin1 && unicode.In(r, unicode.M)
}

func isRegional(r rune) bool { return r >= '\U0001F1E6' && r <= '\U0001F1FF' }
