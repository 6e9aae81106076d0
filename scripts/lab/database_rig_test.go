//go:build rig

package lab

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// A database takes commits from one client until the power goes, and can be asked afterwards what it has kept. The numbers of the
// commits that were confirmed come out of the guest while the client runs.
type database struct {
	name   string
	setup  string // makes it below /mnt, once
	begin  string // gets it going, if it is not
	client string // reads statements, each a line, and prints each result at once
	commit string // a statement that commits number $i and prints it, inside double quotes of a shell
	kept   string // prints the numbers of all the commits that are there
	check  string // the database's own checks; afterwards it is stopped

	committed []int // what was confirmed to clients that have ended
	now       *client
}

const asPostgres = "setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/tmp LC_ALL=C TZ=UTC PATH=" + vm.PostgreSQL + ":$PATH "

const psql = asPostgres + "psql -X -q -t -A -v ON_ERROR_STOP=1 -h /tmp/pg -U postgres postgres"

// databases are those that the scenarios keep on a device: SQLite with both of its journals, PostgreSQL with checksums. What they
// promise to keep is all that they have confirmed.
func databases() []*database {
	lite := func(name, journal string) *database {
		file := "/mnt/" + name + ".db"
		return &database{
			name:   "SQLite, " + journal,
			setup:  fmt.Sprintf("sqlite3 %s 'pragma journal_mode=%s; create table history(id integer primary key, text text);' >/dev/null", file, journal),
			client: fmt.Sprintf("stdbuf -oL sqlite3 -bail -cmd 'pragma synchronous=extra' %s", file),
			commit: "insert into history values($i, hex(randomblob(400))); select $i;",
			check:  fmt.Sprintf(`[ "$(sqlite3 %s 'pragma integrity_check')" = ok ]`, file),
			kept:   fmt.Sprintf("sqlite3 %s 'select id from history'", file),
		}
	}
	return []*database{lite("log", "wal"), lite("undo", "delete"), {
		name: "PostgreSQL",
		// A hundred accounts and a history: what is in the one must be the sum of the other.
		setup: `mkdir -p /mnt/pg; chown 65534:65534 /mnt/pg; chmod 700 /mnt/pg
` + asPostgres + `initdb -D /mnt/pg -U postgres -k -A trust -E UTF8 --no-locale --no-sync --wal-segsize=1 >/dev/null
printf "max_wal_size = 16MB\nmin_wal_size = 4MB\nshared_buffers = 8MB\ncheckpoint_timeout = 30s\nautovacuum = off\nmax_connections = 10\n" >> /mnt/pg/postgresql.conf
sync -f /mnt`,
		begin: `mkdir -p /tmp/pg; chown 65534:65534 /tmp/pg
` + asPostgres + `pg_ctl -D /mnt/pg status >/dev/null || ` + asPostgres + `pg_ctl -D /mnt/pg -l /tmp/pg/log -o '-k /tmp/pg -h ""' -w -t 100 start >/dev/null || { cat /tmp/pg/log >&2; exit 1; }
[ "$(` + psql + ` -c "select count(*) from pg_class where relname = 'account'")" = 1 ] || ` + psql + ` <<'X'
create table account(id int primary key, balance bigint not null default 0);
insert into account select generate_series(0, 99);
create table history(id int primary key, account int not null, amount int not null, text text);
create extension amcheck;
create function transfer(n int) returns int language sql as $$
	insert into history values (n, n % 100, n % 17, repeat(md5(n::text), 20));
	update account set balance = balance + n % 17 where id = n % 100;
	select n;
$$;
X`,
		client: "stdbuf -oL " + psql,
		commit: "select transfer($i);",
		check: `[ "$(` + psql + ` -c "select count(*) from account a where balance <> (select coalesce(sum(amount), 0) from history h where h.account = a.id)")" = 0 ]
` + asPostgres + `pg_amcheck -h /tmp/pg -U postgres --heapallindexed -t history -t account postgres
` + asPostgres + `pg_ctl -D /mnt/pg -m fast -w -t 100 stop >/dev/null
` + asPostgres + `pg_checksums -D /mnt/pg --check >/dev/null`,
		kept: psql + " -c 'select id from history'",
	}}
}

// A client is one that runs.
type client struct {
	process *vm.Process
	mu      sync.Mutex
	partial string
	numbers []int
	said    strings.Builder
}

func (c *client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := c.partial + string(p)
	for {
		line, rest, whole := strings.Cut(text, "\n")
		if !whole {
			c.partial = text
			return len(p), nil
		}
		text = rest
		if n, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
			c.numbers = append(c.numbers, n)
		}
	}
}

func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.numbers)
}

// start runs a client on the node where the file system is mounted.
func (d *database) start(b *bench, n *vm.Node, first int) {
	b.t.Helper()
	d.now = &client{}
	script := fmt.Sprintf(`i=%d; while :; do echo "%s"; i=$((i+1)); done | %s`, first, d.commit, d.client)
	var err error
	d.now.process, err = n.Start(b.ctx, vm.Cmd{Argv: []string{"sh", "-c", script}, Stdout: d.now, Stderr: &d.now.said})
	b.ok(err)
}

// goesOn waits for more commits.
func (d *database) goesOn(b *bench, commits int) {
	b.t.Helper()
	end, until := d.now.count()+commits, time.Now().Add(3*time.Minute)
	for d.now.count() < end {
		select {
		case <-d.now.process.Done():
			b.ok(fmt.Errorf("%s: the client has ended: %s", d.name, d.now.said.String()))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(until) {
			b.ok(fmt.Errorf("%s: no more commits: %s", d.name, d.now.said.String()))
		}
	}
}

// ended takes note of what a client has been told.
func (d *database) ended(b *bench) {
	b.t.Helper()
	<-d.now.process.Done()
	if said := d.now.said.String(); strings.Contains(said, "I/O error") || strings.Contains(said, "malformed") {
		b.ok(fmt.Errorf("%s: %s", d.name, said))
	}
	d.committed = append(d.committed, d.now.numbers...)
	d.now = nil
}

// verify wants every confirmed commit, and the database's own checks; it leaves it stopped.
func (d *database) verify(b *bench, n *vm.Node) {
	b.t.Helper()
	if len(d.committed) == 0 {
		b.ok(errors.New(d.name + ": nothing was committed: there is nothing to check"))
	}
	there := map[int]bool{}
	for _, word := range strings.Fields(b.sh(n, "%s", d.kept)) {
		i, err := strconv.Atoi(word)
		b.ok(err)
		there[i] = true
	}
	for _, i := range d.committed {
		if !there[i] {
			b.ok(fmt.Errorf("%s: commit %d was confirmed and is not there; %d are, of %d that were confirmed", d.name, i, len(there), len(d.committed)))
		}
	}
	b.sh(n, "%s", d.check)
	b.t.Logf("%s: all %d confirmed commits are there, %d in all", d.name, len(d.committed), len(there))
}
