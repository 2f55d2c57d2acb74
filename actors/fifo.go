package actors

// fifo has values in order. It keeps room for twice as many as wait at most. Not safe for concurrent use.
type fifo[T any] struct {
	values []T
	next   int // what is before it has been taken
}

func (f *fifo[T]) len() int { return len(f.values) - f.next }

func (f *fifo[T]) push(v T) {
	if len(f.values) == cap(f.values) && f.next > len(f.values)/2 {
		n := copy(f.values, f.values[f.next:])
		clear(f.values[n:])
		f.values, f.next = f.values[:n], 0
	}
	f.values = append(f.values, v)
}

// pop takes the oldest value; there must be one.
func (f *fifo[T]) pop() T {
	v := f.values[f.next]
	clear(f.values[f.next : f.next+1])
	if f.next++; f.next == len(f.values) {
		f.values, f.next = f.values[:0], 0
	}
	return v
}
