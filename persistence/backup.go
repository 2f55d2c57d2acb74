package persistence

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/hashicorp/raft"
	"github.com/klauspost/compress/zstd"

	"github.com/crier-im/crier"
)

// backupMagic begins a backup, under zstd; the byte in it is the format.
var backupMagic = []byte("crierbackup\x01")

// backupEnd ends one: what stops before it was cut.
var backupEnd = []byte("end of backup")

const (
	// chunkMost bounds a piece of a group's stream in a backup.
	chunkMost = 1 << 20
	// headerMost bounds the header of a backup.
	headerMost = 1 << 20
)

// BackupInfo is what a backup says of itself.
type BackupInfo struct {
	Format     int       `json:"format"` // of the data directory
	NodeID     string    `json:"node_id"`
	Partitions int       `json:"partitions"`
	Created    time.Time `json:"created"`
}

// Backup writes everything that the node knows to w, as of one moment, while the node goes on: commands wait until
// what is in memory is on disk, tens of milliseconds. It blocks until all is written. The logs are not in it: the states are whole. A node that does not keep
// every partition refuses.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	if kept := s.kept(); kept < s.cfg.Partitions {
		return crier.Errorf(crier.CodeBadParameter, "this node keeps %d of %d partitions: a backup is taken on one that keeps all", kept, s.cfg.Partitions)
	}
	if err := s.settle(); err != nil {
		return err
	}
	txn := s.stateDB.NewTransaction(false)
	s.still.Unlock()
	defer txn.Discard()
	z, err := zstd.NewWriter(w)
	if err != nil {
		return err
	}
	info := BackupInfo{Format: formatVersion, NodeID: s.NodeID(), Partitions: s.cfg.Partitions, Created: time.Now().UTC().Truncate(time.Second)}
	header, err := json.Marshal(info)
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32(bytes.Clone(backupMagic), uint32(len(header)))
	if _, err := z.Write(append(head, header...)); err != nil {
		return err
	}
	for _, p := range append(s.groups(), crier.SystemPartition) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.base(p).stream(txn, &chunkWriter{out: z}); err != nil {
			return fmt.Errorf("back up partition %s: %w", p, err)
		}
		if _, err := z.Write(make([]byte, 4)); err != nil {
			return err
		}
	}
	if _, err := z.Write(backupEnd); err != nil {
		return err
	}
	return z.Close()
}

// kept returns how many partitions there is something of.
func (s *Store) kept() (n int) {
	for _, p := range s.groups() {
		b := s.base(p)
		b.mu.RLock()
		if b.meta.GetIndex() > 0 {
			n++
		}
		b.mu.RUnlock()
	}
	return n
}

// settle stops every state machine and returns when what they have applied is on disk. It returns with still locked,
// unless there is an error.
func (s *Store) settle() error {
	s.still.Lock()
	for _, p := range append(s.groups(), crier.SystemPartition) {
		b := s.base(p)
		b.mu.RLock()
		index := b.meta.GetIndex()
		b.mu.RUnlock()
		if err := b.waitStored(index); err != nil {
			s.still.Unlock()
			return err
		}
	}
	return nil
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

// Close is for raft; there is nothing to close.
func (*chunkReader) Close() error { return nil }

// RestoreBackup makes a data directory from a backup. dir must not exist or be empty. The node that is started on it is a new
// one, by itself, and knows everything that the backup has. After an error the directory is of no use, and can be removed. It blocks.
func RestoreBackup(ctx context.Context, dir string, r io.Reader, log *slog.Logger) (info BackupInfo, err error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return info, fmt.Errorf("%s is not empty: a backup is restored into a new directory", dir)
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return info, err
	}
	defer z.Close()
	if info, err = readHeader(z); err != nil {
		return info, err
	}
	s, err := Open(ctx, Config{Dir: dir, Partitions: info.Partitions, MinFreeDisk: 1, Logger: log})
	if err != nil {
		return info, err
	}
	return info, errors.Join(s.restoreAll(ctx, z), s.Close())
}

// VerifyBackup reads a backup to its end and says whether it is whole. It blocks.
func VerifyBackup(r io.Reader) (info BackupInfo, err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return info, err
	}
	defer z.Close()
	if info, err = readHeader(z); err != nil {
		return info, err
	}
	for p := range info.Partitions + 1 {
		if _, err := io.Copy(io.Discard, &chunkReader{in: z}); err != nil {
			return info, fmt.Errorf("stream %d of the backup: %w", p, err)
		}
	}
	return info, readEnd(z)
}

func readEnd(z io.Reader) error {
	end := make([]byte, len(backupEnd))
	if _, err := io.ReadFull(z, end); err != nil || !bytes.Equal(end, backupEnd) {
		return errors.New("the backup was cut")
	}
	return nil
}

func readHeader(z io.Reader) (info BackupInfo, err error) {
	head := make([]byte, len(backupMagic)+4)
	if _, err := io.ReadFull(z, head); err != nil {
		return info, fmt.Errorf("this is no backup, or a damaged one: %w", cut(err))
	}
	if !bytes.Equal(head[:len(backupMagic)], backupMagic) {
		return info, errors.New("this is not a backup of a format that this version reads")
	}
	n := binary.BigEndian.Uint32(head[len(backupMagic):])
	if n > headerMost {
		return info, errors.New("the header of the backup is damaged")
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(z, header); err != nil {
		return info, fmt.Errorf("the header of the backup: %w", cut(err))
	}
	if err := json.Unmarshal(header, &info); err != nil {
		return info, fmt.Errorf("the header of the backup: %w", err)
	}
	if info.Format != formatVersion {
		return info, fmt.Errorf("the backup has format %d, this version of Crier reads format %d", info.Format, formatVersion)
	}
	return info, nil
}

func (s *Store) restoreAll(ctx context.Context, z io.Reader) error {
	for _, p := range append(s.groups(), crier.SystemPartition) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.restoreGroup(p, &chunkReader{in: z}); err != nil {
			return fmt.Errorf("restore partition %s: %w", p, err)
		}
	}
	if err := s.system.forgetNodes(); err != nil {
		return err
	}
	return readEnd(z)
}

// restoreGroup installs a state, and makes this node the only voter of its group.
func (s *Store) restoreGroup(p crier.PartitionID, r *chunkReader) error {
	b := s.base(p)
	b.mu.Lock()
	err := b.restore(r, nil)
	b.mu.Unlock()
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // the piece that ends it
		return err
	}
	if b.meta.GetIndex() == 0 {
		return nil // a group that was never led
	}
	self := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(s.NodeID()), Address: raft.ServerAddress(s.NodeID())}}}
	b.mu.Lock()
	b.meta.Configuration, b.meta.ConfigurationIndex = raft.EncodeConfiguration(self), b.meta.GetIndex()
	b.touch()
	index, term := b.meta.GetIndex(), b.meta.GetTerm()
	b.mu.Unlock()
	if err := s.logs[p].SetUint64([]byte("CurrentTerm"), term); err != nil { // raft's name: no term of before comes again
		return err
	}
	return b.waitWritten(index)
}
