"""Prints what a platform holds, counted by requests alone: totals.py TOKEN"""

import json
import sys
import urllib.parse
import urllib.request

TOKEN = sys.argv[1]


def every(port, path):
    cursor = None
    while True:
        query = {"limit": 100} | ({"cursor": cursor} if cursor else {})
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}",
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            page = json.load(answer)
        yield from page["items"]
        cursor = page.get("nextCursor")
        if not cursor:
            return


def amount(bills, member):
    cents = sum(int(bill[member]["amount"].replace(".", "")) for bill in bills)
    return f"{cents // 100}.{cents % 100:02}"


bills = list(every(8083, "/bills"))
payments = list(every(8083, "/payments"))
totals = {
    "amount_billed": amount(bills, "total"),
    "amount_outstanding": amount(bills, "outstanding"),
    "amount_paid": amount(bills, "paid"),
    "appointments_booked": sum(1 for _ in every(8082, "/appointments")),
    "bill_lines": sum(len(bill["lines"]) for bill in bills),
    "bills": len(bills),
    "bills_issued": sum(bill["status"] == "issued" for bill in bills),
    "bills_paid": sum(bill["status"] == "paid" for bill in bills),
    "patients": sum(1 for _ in every(8081, "/patients")),
    "payments_succeeded": sum(payment["status"] == "succeeded" for payment in payments),
    "practitioners": sum(1 for _ in every(8082, "/practitioners")),
}
print(json.dumps(totals, indent=1, sort_keys=True))
