package vm

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// databasePackages are what a test puts on a device to see whether it is a disk that people keep databases on.
var databasePackages = []string{"coreutils", "postgresql-15", "sqlite3"}

// PostgreSQL is where a guest with [Databases] finds PostgreSQL's programs.
const PostgreSQL = "/usr/lib/postgresql/15/bin"

// databaseTrees are directories of the packages, and databaseFiles single files, that the databases need beside their libraries.
// stdbuf makes a program tell at once what it has done.
var (
	databaseTrees = []string{"usr/lib/postgresql/15/lib", "usr/share/postgresql/15"}
	databaseFiles = []string{
		"usr/bin/sqlite3", "usr/bin/stdbuf", "usr/libexec/coreutils/libstdbuf.so",
		"usr/lib/postgresql/15/bin/initdb", "usr/lib/postgresql/15/bin/postgres", "usr/lib/postgresql/15/bin/pg_ctl",
		"usr/lib/postgresql/15/bin/psql", "usr/lib/postgresql/15/bin/pg_checksums", "usr/lib/postgresql/15/bin/pg_amcheck",
	}
)

// Databases fetches SQLite and PostgreSQL (once) and returns what Config.Files needs for them: guest path -> file of this machine.
func Databases(ctx context.Context, log func(format string, args ...any)) (map[string]string, error) {
	f, unlock, err := openFetcher(ctx, log)
	if err != nil {
		return nil, err
	}
	defer unlock()
	root, err := f.set(ctx, "databases", "bookworm", databasePackages)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	libs := newLibraryFinder(root)
	for _, name := range databaseFiles {
		if err := addFile(files, libs, root, name); err != nil {
			return nil, err
		}
	}
	for _, tree := range databaseTrees {
		err := filepath.WalkDir(filepath.Join(root, tree), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || unneeded(path) {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			return addFile(files, libs, root, name)
		})
		if err != nil {
			return nil, fmt.Errorf("databases: %w", err)
		}
	}
	for guest, host := range libs.found {
		files["/"+merged(guest)] = host
	}
	return files, f.cache.touch(root)
}

// unneeded is the compiler, by far the largest part of PostgreSQL, and what it says in other languages.
func unneeded(path string) bool {
	return strings.Contains(path, "llvmjit") || strings.Contains(path, "/bitcode/") || strings.Contains(path, "/man/") || strings.Contains(path, "/locale/")
}

func addFile(files map[string]string, libs *libraryFinder, root, name string) error {
	host, err := inRoot(root, name)
	if err != nil {
		return err
	}
	files["/"+merged(name)] = host
	return libs.add(host)
}
