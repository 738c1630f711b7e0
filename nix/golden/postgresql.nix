# The part of nixpkgs' services.postgresql that a test needs: a server with its databases and users.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  given = config.services.postgresql;
  folder = "/var/lib/postgresql";
  statements =
    map (user: ''create role "${user.name}" login'') given.ensureUsers
    ++ map (name: ''create database "${name}"'') given.ensureDatabases;
in
{
  users.users.postgres.home = folder;
  users.groups.postgres = { };
  systemd.services.postgresql = {
    description = "PostgreSQL";
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      User = "postgres";
      StateDirectory = "postgresql";
      RuntimeDirectory = "postgresql";
    };
    script = ''
      export LC_ALL=C
      if [ ! -e ${folder}/data ]; then
        ${pkgs.postgresql}/bin/initdb --no-sync --auth-local=peer --auth-host=trust --username=postgres -D ${folder}/data
        ${pkgs.postgresql}/bin/postgres --single -D ${folder}/data postgres <<'END'
      ${lib.concatStringsSep "\n" statements}
      END
      fi
      exec ${pkgs.postgresql}/bin/postgres -D ${folder}/data -k /run/postgresql -c listen_addresses=${
        lib.optionalString (given.enableTCPIP or false) "localhost"
      }
    '';
  };
}
