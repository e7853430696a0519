// Verifies an exported tlog-tiles tree with nothing but golang.org/x/mod:
// the checkpoint's signature, every tile up to the root, every entry against its leaf hash.
//
//	verify DIR VKEY
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// folder reads tiles of height 8 from a directory laid out as C2SP tlog-tiles.
type folder struct{ dir string }

func (f folder) Height() int { return height }

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

func (f folder) path(t tlog.Tile) string {
	name := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", height))
	name = strings.Replace(name, "data/", "entries/", 1)
	return filepath.Join(f.dir, "tile", filepath.FromSlash(name))
}

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(tiles))
	for i, t := range tiles {
		data, err := os.ReadFile(f.path(t))
		if err != nil {
			return nil, err
		}
		found[i] = data
	}
	return found, nil
}

func tree(dir, vkey string) (tlog.Tree, error) {
	data, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return tlog.Tree{}, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("checkpoint of another origin")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

func entries(f folder, index, width int64) ([][]byte, error) {
	bundle, err := os.ReadFile(f.path(tlog.Tile{H: height, L: -1, N: index, W: int(width)}))
	if err != nil {
		return nil, err
	}
	var found [][]byte
	for len(bundle) > 0 {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			return nil, fmt.Errorf("bundle %d is cut off", index)
		}
		end := 2 + int(binary.BigEndian.Uint16(bundle))
		found = append(found, bundle[2:end])
		bundle = bundle[end:]
	}
	if int64(len(found)) != width {
		return nil, fmt.Errorf("bundle %d has %d entries, not %d", index, len(found), width)
	}
	return found, nil
}

func verify(dir, vkey string) (int64, error) {
	head, err := tree(dir, vkey)
	if err != nil {
		return 0, err
	}
	f := folder{dir}
	reader := tlog.TileHashReader(head, f)
	for start := int64(0); start < head.N; start += 1 << height {
		width := head.N - start
		if width > 1<<height {
			width = 1 << height
		}
		bodies, err := entries(f, start>>height, width)
		if err != nil {
			return 0, err
		}
		wanted := make([]int64, width)
		for i := range wanted {
			wanted[i] = tlog.StoredHashIndex(0, start+int64(i))
		}
		hashes, err := reader.ReadHashes(wanted)
		if err != nil {
			return 0, err
		}
		for i, body := range bodies {
			if tlog.RecordHash(body) != hashes[i] {
				return 0, fmt.Errorf("entry %d does not have the hash in the tree", start+int64(i))
			}
		}
	}
	return head.N, nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: verify DIR VKEY")
		os.Exit(2)
	}
	size, err := verify(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
	fmt.Printf("%d entries verified\n", size)
}
