"""Trees and models of change along them: signal, Mk, births and deaths, balance."""
