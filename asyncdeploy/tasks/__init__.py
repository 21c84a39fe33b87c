"""How a call ends: what must be done is done, its threads end with it, it is back in time however it is cancelled."""
