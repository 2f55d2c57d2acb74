package persistence

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/crier-im/crier"
)

// backupMagic begins a backup, under zstd; the byte in it is the format.
var backupMagic = []byte("crierbackup\x02")

// backupEnd ends one, with the SHA-256 of everything before it: what stops earlier was cut.
var backupEnd = []byte("end of backup")

const (
	// chunkMost bounds a piece of a group's stream in a backup.
	chunkMost = 1 << 20
	// headerMost bounds the header of a backup.
	headerMost = 1 << 20
)

var errCut = errors.New("the backup was cut, or is damaged")

// BackupInfo is what a backup says of itself.
type BackupInfo struct {
	Format     int       `json:"format"`  // of the states in it
	Version    string    `json:"version"` // of the binary that made it, for people
	Partitions int       `json:"partitions"`
	Created    time.Time `json:"created"`
}

// groups returns the groups of a backup in its order: the system group is the last.
func (i *BackupInfo) groups() (all []crier.PartitionID) {
	for p := range i.Partitions {
		all = append(all, crier.PartitionID(p))
	}
	return append(all, crier.SystemPartition)
}

// WriteBackup writes a backup of a cluster with as many partitions: stream writes the state of one group, as crier.Cut does. It blocks until all is
// written.
func WriteBackup(w io.Writer, version string, partitions int, stream func(p crier.PartitionID, w io.Writer) error) error {
	z, err := zstd.NewWriter(w)
	if err != nil {
		return err
	}
	defer func() { _ = z.Close() }() // after an error; once more is harmless
	sum := sha256.New()
	out := io.MultiWriter(z, sum)
	info := BackupInfo{Format: formatVersion, Version: version, Partitions: partitions, Created: time.Now().UTC().Truncate(time.Second)}
	header, err := json.Marshal(info)
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32(bytes.Clone(backupMagic), uint32(len(header)))
	if _, err := out.Write(append(head, header...)); err != nil {
		return err
	}
	for _, p := range info.groups() {
		if err := stream(p, &chunkWriter{out}); err != nil {
			return fmt.Errorf("back up partition %s: %w", p, err)
		}
		if _, err := out.Write(make([]byte, 4)); err != nil {
			return err
		}
	}
	if _, err := z.Write(sum.Sum(backupEnd)); err != nil {
		return err
	}
	return z.Close()
}

// chunkWriter writes pieces with their lengths. An empty one, which it never writes, ends a stream.
type chunkWriter struct{ out io.Writer }

func (c *chunkWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		piece := p[n:min(n+chunkMost, len(p))]
		if _, err := c.out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(piece)))); err != nil {
			return n, err
		}
		k, err := c.out.Write(piece)
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// chunkReader reads what chunkWriter has written, up to the empty piece.
type chunkReader struct {
	in   io.Reader
	left int
	done bool
}

// Read is io.Reader's.
func (c *chunkReader) Read(p []byte) (int, error) {
	for c.left == 0 {
		if c.done {
			return 0, io.EOF
		}
		var head [4]byte
		if _, err := io.ReadFull(c.in, head[:]); err != nil {
			return 0, cut(err)
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > chunkMost {
			return 0, fmt.Errorf("a piece of %d bytes", n)
		}
		c.left, c.done = int(n), n == 0
	}
	n, err := c.in.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, cut(err)
}

// cut is the error of a backup that ends too early.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadBackup reads a backup to its end, and gives the state of one group after the other to take, the system group's last; what take leaves is skipped. An error
// says why it is no backup, or not a whole one; take has had some of it then. It blocks.
func ReadBackup(r io.Reader, take func(info *BackupInfo, p crier.PartitionID, state io.Reader) error) (*BackupInfo, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	sum := sha256.New()
	in := io.TeeReader(z, sum)
	info, err := readHeader(in)
	if err != nil {
		return nil, err
	}
	for _, p := range info.groups() {
		state := &chunkReader{in: in}
		if err := take(info, p, state); err != nil {
			return nil, err
		}
		if _, err := io.Copy(io.Discard, state); err != nil {
			return nil, fmt.Errorf("partition %s in the backup: %w", p, err)
		}
	}
	return info, readEnd(z, sum)
}

// VerifyBackup reads a backup to its end and says whether it is whole; read is told of each group, done of total. It blocks.
func VerifyBackup(r io.Reader, read func(done, total int)) (*BackupInfo, error) {
	done := 0
	return ReadBackup(r, func(info *BackupInfo, p crier.PartitionID, state io.Reader) error {
		if err := readStream(bufio.NewReader(state), func(_, _ []byte) error { return nil }); err != nil {
			return fmt.Errorf("partition %s in the backup: %w", p, err)
		}
		done++
		read(done, info.Partitions+1)
		return nil
	})
}

// BackupApps gives the apps in the state of a system group to take, each as it is kept.
func BackupApps(state io.Reader, take func(app []byte) error) error {
	return readStream(bufio.NewReader(state), func(k, v []byte) error {
		if k[0] != kindApp {
			return nil
		}
		return take(v)
	})
}

func readEnd(z io.Reader, sum hash.Hash) error {
	end := make([]byte, len(backupEnd)+sha256.Size)
	if _, err := io.ReadFull(z, end); err != nil || !bytes.Equal(end, sum.Sum(bytes.Clone(backupEnd))) {
		return errCut
	}
	if n, err := z.Read(end[:1]); n > 0 || !errors.Is(err, io.EOF) { // the checksum of zstd comes here, too
		return errCut
	}
	return nil
}

func readHeader(z io.Reader) (*BackupInfo, error) {
	head := make([]byte, len(backupMagic)+4)
	if _, err := io.ReadFull(z, head); err != nil {
		return nil, fmt.Errorf("this is no backup, or a damaged one: %w", cut(err))
	}
	if !bytes.Equal(head[:len(backupMagic)], backupMagic) {
		return nil, errors.New("this is not a backup of a format that this version reads")
	}
	n := binary.BigEndian.Uint32(head[len(backupMagic):])
	if n > headerMost {
		return nil, errors.New("the header of the backup is damaged")
	}
	header, info := make([]byte, n), new(BackupInfo)
	if _, err := io.ReadFull(z, header); err != nil {
		return nil, fmt.Errorf("the header of the backup: %w", cut(err))
	}
	if err := json.Unmarshal(header, info); err != nil {
		return nil, fmt.Errorf("the header of the backup: %w", err)
	}
	if info.Format != formatVersion {
		return nil, fmt.Errorf("the backup has format %d, this version of Crier reads format %d", info.Format, formatVersion)
	}
	if info.Partitions < 1 || info.Partitions > crier.MaxPartitions {
		return nil, fmt.Errorf("the backup has %d partitions", info.Partitions)
	}
	return info, nil
}
