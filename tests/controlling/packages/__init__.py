"""toxiproxy's clients, as the registries have them, against our server: `.ci/toxiproxy-clients`."""
