#!/bin/sh
# Run once by the image of PostgreSQL, on an empty data folder: the site's database and MLflow's, each with an owner of its own
# who is no superuser. The passwords come from files and are in no command line.
set -eu
for name in leadersboard mlflow; do
    case $name in
        leadersboard) file=${SECRETS:-/run/secrets}/database_password ;;
        mlflow) file=${SECRETS:-/run/secrets}/mlflow_database_password ;;
    esac
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<SQL
\\set password \`cat $file\`
CREATE ROLE $name LOGIN PASSWORD :'password';
CREATE DATABASE $name OWNER $name;
REVOKE CONNECT ON DATABASE $name FROM PUBLIC;
SQL
done
