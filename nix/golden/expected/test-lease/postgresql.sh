export LC_ALL=C
if [ ! -e /var/lib/postgresql/data ]; then
  /nix/store/00000000000000000000000000000000-postgresql/bin/initdb --no-sync --auth-local=peer --auth-host=trust --username=postgres -D /var/lib/postgresql/data
  /nix/store/00000000000000000000000000000000-postgresql/bin/postgres --single -D /var/lib/postgresql/data postgres <<'END'
create role "hydra-provisioner" login
create database "hydra"
END
fi
exec /nix/store/00000000000000000000000000000000-postgresql/bin/postgres -D /var/lib/postgresql/data -k /run/postgresql -c listen_addresses=localhost
